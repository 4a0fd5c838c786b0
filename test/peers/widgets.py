"""The state with which each of ipywidgets' widgets opens its comm.

Writes widgets.json beside this file: pip install ipywidgets==8.1.9; python widgets.py
"""

import json
from pathlib import Path

import ipywidgets

CASES = {
    "IntSlider": {},
    "FloatSlider": {"value": 0.5, "min": 0.0, "max": 1.0, "step": 0.01, "description": "lr"},
    "FloatLogSlider": {},
    "IntRangeSlider": {},
    "FloatRangeSlider": {},
    "IntProgress": {},
    "FloatProgress": {"value": 3.0, "bar_style": "success"},
    "BoundedIntText": {},
    "BoundedFloatText": {},
    "IntText": {},
    "FloatText": {},
    "Text": {"value": "a", "placeholder": "b"},
    "Textarea": {},
    "Password": {},
    "Checkbox": {},
    "ToggleButton": {},
    "Valid": {},
    "Dropdown": {"options": ["a", "b"]},
    "RadioButtons": {"options": ["a", "b"]},
    "Select": {"options": ["a", "b"], "value": "b"},
    "SelectMultiple": {"options": ["a", "b"], "value": ["b"]},
    "SelectionSlider": {"options": ["a", "b"]},
    "ToggleButtons": {"options": ["a", "b"]},
    "Button": {"description": "Run"},
    "HTML": {"value": "<b>x</b>"},
    "HTMLMath": {},
    "Label": {},
    "ColorPicker": {},
    "Play": {},
    "Box": {},
    "HBox": {},
    "VBox": {},
    "GridBox": {},
    "Tab": {},
    "Accordion": {},
    "Stack": {},
    "Output": {},
    "Layout": {},
}


def plain(value):
    """JSON, with references to other widgets as `IPY_MODEL_*`."""
    if isinstance(value, str) and value.startswith("IPY_MODEL_"):
        return "IPY_MODEL_*"
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def case(name, options):
    widget = getattr(ipywidgets, name)(**options)
    state = {"name": name, "options": options, "state": plain(widget.get_state())}
    if getattr(widget, "style", None) is not None:
        state["style"] = plain(widget.style.get_state())
    return state


cases = [case(name, options) for name, options in CASES.items()]
result = {"ipywidgets": ipywidgets.__version__, "cases": cases}
(Path(__file__).parent / "widgets.json").write_text(json.dumps(result, indent=1) + "\n")
