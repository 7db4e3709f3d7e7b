"""A modular model of drawn weights over a small data set, with a router that was fitted on it."""

import pytest
import torch

from mome.engine import build_here
from mome.models.assemble import build_moe
from mome.models.gpt2 import gpt2_config
from mome.recipes.data import Data
from mome.recipes.routers import FittedRouter
from mome.scales import Shape

torch.set_num_threads(1)  # equal results run to run

HOSTILE = {
    "empty": "", "white space": " \n\t ", "a megabyte": "bouton " * 150_000,
    "one long word": "x" * 1_000_000,
    "right to left": "انقر على الزر לחץ על הכפתור", "emoji": "🦊👩‍👩‍👧🇫🇷",
    "controls": "a\x00\x07\x1b[31mb\u202ec\ud800",
    "markup": "<script>window.hit = 1</script><img src=x onerror=\"window.hit=1\">",
    "mathematics": "$x_{$ \\frac"}


@pytest.fixture(params=HOSTILE.values(), ids=HOSTILE)
def hostile(request):
    return request.param


@pytest.fixture(scope="session")
def data(tiny_setting):
    return Data.of(tiny_setting).open()


@pytest.fixture(scope="session")
def model(tiny_setting, data):
    router = FittedRouter.of(tiny_setting)
    build_here(router)
    body = gpt2_config(Shape(1, 2, 16), len(data.tokenizer), tiny_setting.scale.context)
    found = build_moe(data.languages, body, has_common_expert=True, seed=0)
    torch.manual_seed(1)
    with torch.no_grad():
        for body in [*found.experts.values(), found.common_expert, found.lm_head]:
            for parameter in body.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    found.router = router.open()
    return found.eval()
