"""The plain encoder: prompt and target are a text template filled in."""

from collections.abc import Sequence
from typing import Any

from premem_core.errors import DataError
from premem_core.models.backend import Ending, Target
from premem_core.models.encoding.spans import (
    common_prefix,
    ends_inside,
    kept_marks,
    scored_tokens,
    trace_length,
)
from premem_core.models.encoding.stops import added_tokens
from premem_core.problems.prompts import PROMPT_COMPLETION, PromptTemplate
from premem_core.problems.thinking import ThinkingMarks
from premem_core.records import Example


class PlainEncoder:
    """Makes token ids of a filled-in `PromptTemplate`; the arguments are those of `make_encoder`.

    Prompt and target are tokenized together. A token belongs to the target if its last character
    does. So the result is the same for tokenizers with and without BOS, and a special token that
    a tokenizer appends never counts (docs/method.md, section 8).

    With `PROMPT_COMPLETION` the target is TRL's: it begins with the first token that differs from
    those of the prompt alone, and has one EOS at its end. At the end of a prompt, blank lines are
    other tokens than before a completion.
    """

    def __init__(
        self,
        template: PromptTemplate,
        tokenizer: Any,
        ends: frozenset[int],
        marks: ThinkingMarks | None = None,
        longest: int | None = None,
    ) -> None:
        self.template, self.tokenizer, self._ends = template, tokenizer, ends
        self._marks, self._longest = marks, longest
        of_trl = PROMPT_COMPLETION.prompt, PROMPT_COMPLETION.target
        self._is_completion = (template.prompt, template.target) == of_trl
        stops = {i for text, i in added_tokens(tokenizer).items() if text in template.stop}
        self.opens_trace = ends_inside(template.prompt, marks)
        kept = kept_marks(tokenizer, marks)
        self.ending = Ending(template.stop, ends | stops, kept, marks)

    def prompt(self, example: Example, beginning: str = "") -> tuple[int, ...]:
        """As `Encoder.prompt`."""
        encoded = self._encoded(self._fill(example)[0] + beginning)
        ids = list(encoded["input_ids"])
        # Some tokenizers append EOS; after it, the model would take the text to be finished.
        while ids and ids[-1] in self._ends and encoded["offset_mapping"][len(ids) - 1][1] == 0:
            ids.pop()
        if not ids:
            raise DataError("a prompt has no token; add some text to the prompt template")
        return tuple(ids)

    def leaves_open(self, example: Example, beginning: str = "") -> bool:
        """As `Encoder.leaves_open`; a beginning stands where the prompt ends."""
        return ends_inside(beginning, self._marks, opened=self.opens_trace)

    def target(self, example: Example) -> Target:
        """As `Encoder.target`."""
        return self._pair(*self._fill(example))

    def unconditional_target(self, example: Example) -> Target:
        """As `Encoder.unconditional_target`.

        If the tokenizer adds no BOS, nothing comes before the first token of the target, so it has
        no likelihood: the scored tokens then begin with the second.
        """
        return self._pair("", self._fill(example)[1])

    def _fill(self, example: Example) -> tuple[str, str]:
        bos, eos = self.tokenizer.bos_token or "", self.tokenizer.eos_token or ""
        if self._is_completion and example.solution.endswith(eos):
            eos = ""
        return self.template.fill(example, bos=bos, eos=eos)

    def _encoded(self, text: str) -> Any:
        # A BOS that is typed at the beginning of the template is the one that training saw; the
        # tokenizer would add another.
        typed = bool(self.tokenizer.bos_token) and text.startswith(self.tokenizer.bos_token)
        return self.tokenizer(text, return_offsets_mapping=True, add_special_tokens=not typed)

    def _pair(self, prompt: str, target: str) -> Target:
        encoded = self._encoded(prompt + target)
        ends = [end for _, end in encoded["offset_mapping"]]
        start = self._prompt_tokens(prompt, encoded["input_ids"])
        scored = [i for i, end in enumerate(ends) if end > len(prompt) or (end and i >= start)]
        if not prompt and scored[:1] == [0]:
            scored = scored[1:]
        if not scored or scored[0] == 0:
            raise DataError(
                f"the target {target[:60]!r} has no token that follows a prompt token; the prompt "
                "template and the solution must both be non-empty"
            )
        trace = trace_length(target, self._marks, opened=self.opens_trace)
        trace_end = len(prompt) + trace if trace else 0
        return scored_tokens(encoded["input_ids"], ends, scored, trace_end, self._longest)

    def _prompt_tokens(self, prompt: str, ids: Sequence[int]) -> int:
        """The number of tokens before the target where tokens decide, else that of all tokens."""
        if not (self._is_completion and prompt):
            return len(ids)
        return common_prefix(self._encoded(prompt)["input_ids"], ids)
