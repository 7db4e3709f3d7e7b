"""MoME workbook: distil a multilingual teacher into specialised modular language models (arXiv:2407.19610)."""

import importlib.abc
import importlib.util
import sys

__version__ = "0.1.0"
_AUTO_CLASSES = "transformers.models.auto.configuration_auto"


class _MoMEConfig:
    """Stands in for `mome.moe.MoMEConfig` until transformers' Auto classes meet a saved model: its module takes seconds to import."""

    @classmethod
    def from_dict(cls, *arguments, **options):
        return importlib.import_module("mome.moe").MoMEConfig.from_dict(*arguments, **options)


class _TellAutoClasses(importlib.abc.MetaPathFinder):
    """Tells the Auto classes of our model when they are imported, as importing them here would slow every command."""

    def find_spec(self, name, path=None, target=None):
        if name != _AUTO_CLASSES:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def execute_and_tell(module):
            execute(module)
            module.CONFIG_MAPPING.register("mome", _MoMEConfig)

        spec.loader.exec_module = execute_and_tell
        return spec


if _AUTO_CLASSES in sys.modules:
    sys.modules[_AUTO_CLASSES].CONFIG_MAPPING.register("mome", _MoMEConfig, exist_ok=True)
else:
    sys.meta_path.insert(0, _TellAutoClasses())
