#!/usr/bin/env bash
# Turn a folder of text files into a tiny web site with an index page.
set -eu

in=${1:-pages}
out=${2:-public}
title=${SITE_TITLE:-Notes}

[ -d "$in" ] || { echo "folder $in is missing" >&2; exit 1; }
mkdir -p "$out"

escape() {
    sed -e 's/&/\&amp;/g' -e 's/</\&lt;/g' -e 's/>/\&gt;/g'
}

# Blank lines separate paragraphs; a line that begins with "# " is a heading.
body() {
    escape < "$1" | awk '
        function close_p() { if (open) { print "</p>"; open = 0 } }
        /^# /   { close_p(); print "<h2>" substr($0, 3) "</h2>"; next }
        /^ *$/  { close_p(); next }
        !open   { print "<p>"; open = 1 }
                { print "  " $0 }
        END     { close_p() }'
}

page() {
    local heading=$1
    cat <<HTML
<!doctype html>
<meta charset="utf-8">
<title>$heading | $title</title>
<style>body { max-width: 40em; margin: auto; font-family: serif }</style>
<h1>$heading</h1>
HTML
    cat
    echo "<footer>Built on $(date +%F)</footer>"
}

links=""
count=0
for text in "$in"/*.txt; do
    [ -e "$text" ] || break
    slug=$(basename "$text" .txt)
    name=$(tr '_-' '  ' <<< "$slug")
    body "$text" | page "${name^}" > "$out/$slug.html"
    links+="<li><a href=\"$slug.html\">${name^}</a></li>"$'\n'
    count=$((count + 1))
done

printf '<ul>\n%s</ul>\n' "$links" | page "$title" > "$out/index.html"
echo "$count pages in $out"
