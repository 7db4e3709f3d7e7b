-- Several workshops share one database; each may see its own jobs only.
CREATE ROLE workshop_user NOLOGIN;
CREATE ROLE workshop_admin NOLOGIN BYPASSRLS;

CREATE TABLE tenant (
    slug   text PRIMARY KEY CHECK (slug ~ '^[a-z][a-z0-9-]+$'),
    title  text NOT NULL
);

CREATE TABLE job (
    job_id   uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant   text NOT NULL DEFAULT current_setting('app.tenant', true) REFERENCES tenant (slug),
    summary  text NOT NULL,
    details  jsonb NOT NULL DEFAULT '{}'::jsonb,
    done     boolean NOT NULL DEFAULT false
);
CREATE INDEX job_details_gin ON job USING gin (details jsonb_path_ops);
CREATE INDEX job_open ON job (tenant) WHERE NOT done;

ALTER TABLE job ENABLE ROW LEVEL SECURITY;

CREATE POLICY own_jobs ON job FOR ALL TO workshop_user
    USING (tenant = current_setting('app.tenant', true))
    WITH CHECK (tenant = current_setting('app.tenant', true));

CREATE POLICY keep_finished_jobs ON job AS RESTRICTIVE FOR DELETE TO workshop_user
    USING (NOT done);

GRANT SELECT ON tenant TO workshop_user;
GRANT SELECT, INSERT, UPDATE (summary, details, done), DELETE ON job TO workshop_user;
GRANT ALL ON tenant, job TO workshop_admin;

INSERT INTO tenant VALUES ('north-garage', 'North Garage'), ('velo-plus', 'Velo Plus');
INSERT INTO job (tenant, summary, details) VALUES
    ('north-garage', 'Replace clutch', '{"plate": "KX 204", "parts": ["disc", "bearing"]}'),
    ('velo-plus', 'True both wheels', '{"frame": 58, "parts": []}');

SET app.tenant = 'velo-plus';
SET ROLE workshop_user;

-- Only the bicycle job is visible from here.
SELECT summary, details ->> 'frame' AS frame_cm, jsonb_array_length(details -> 'parts') AS parts
FROM job
WHERE details @> '{"frame": 58}';

UPDATE job SET done = true, details = details || '{"finished": "2024-08-14"}' WHERE NOT done;

RESET ROLE;
