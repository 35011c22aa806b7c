"""How peft reads names of layers: the one file of this room that asks it."""

from collections.abc import Iterable, Sequence

from torch import nn

_TRANSLATED = {"w1", "w2", "w3", "gate_proj", "up_proj", "down_proj", "gate"}  # all that any of its tables names


def resolve(target_modules: Sequence[str] | str, names: Iterable[str]) -> set[str]:
    """The modules that peft puts adapters on, by its own words."""
    from peft import LoraConfig
    from peft.tuners.tuners_utils import check_target_module_exists

    config = LoraConfig(target_modules=target_modules if isinstance(target_modules, str) else list(target_modules))
    return {name for name in names if check_target_module_exists(config, name)}


def find_taken_ends(net: nn.Module) -> set[str]:
    """Ends of names that peft turns into experts' parameters, whatever stands before them: since transformers 5 the experts of some
    mixtures are one parameter, and peft translates the names that older adapters have for them."""
    try:
        from peft import LoraConfig
        from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers, get_model_conversion_mapping
    except ImportError:  # older ones translate nothing
        return set()
    if not hasattr(getattr(net, "config", None), "model_type"):
        return set()
    config = LoraConfig(target_modules=set(_TRANSLATED))
    try:
        convert_peft_config_for_transformers(config, model=net, conversions=get_model_conversion_mapping(net))
    except (AttributeError, KeyError, TypeError, ValueError):
        return _TRANSLATED
    return _TRANSLATED - set(config.target_modules)


def can_target_parameters() -> bool:
    """Whether this peft puts adapters on parameters that are no layers."""
    import inspect

    from peft import LoraConfig

    return "target_parameters" in inspect.signature(LoraConfig).parameters
