"""No progress bars of other libraries on the user's terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["no_bars"]


@contextmanager
def no_bars() -> Iterator[None]:
    """While the block runs, diffusers and transformers draw no bars for weights; afterwards as the user had it."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars

    hub_was_quiet = are_progress_bars_disabled()
    with ExitStack() as undo:
        for logging in (diffusers_logging, transformers_logging):
            if logging.is_progress_bar_enabled():
                logging.disable_progress_bar()
                undo.callback(logging.enable_progress_bar)
        yield
    if hub_was_quiet:  # transformers switches the hub's bars with its own
        disable_progress_bars()
