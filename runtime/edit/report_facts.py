"""What a report says about a range and about the earlier take, as plain JSON values."""

from typing import Any

from runtime.edit.plan import Plan
from runtime.edit.request import GenerationRequest
from runtime.edit.timecode import Span


def range_facts(span: Span | None) -> dict[str, Any] | None:
    """begin, end (seconds after the first picture), frames [first, end) and rate; None for the whole video."""
    if span is None:
        return None
    return {
        "begin": float(span.begin),
        "end": float(span.end),
        "frames": None if span.frames is None else list(span.frames),
        "rate": None if span.rate is None else str(span.rate),
    }


def edit_facts(plan: Plan, request: GenerationRequest) -> dict[str, Any] | None:
    """kind, token frames [first, end) that hold all changes (an extension has no end), and how many tokens changed."""
    if plan.known is None:
        return None
    first, end = plan.known.changed
    extended = request.kind == "extend"
    return {
        "kind": request.kind,
        "tokens": [first, None if extended else end],
        "share": request.share,
        "filled": None if extended else plan.known.count,
    }
