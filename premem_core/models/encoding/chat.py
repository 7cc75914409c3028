"""The chat encoder: prompt and target are renderings of the tokenizer's own chat template.

The boundary of the target is exact or refused. A template that marks what the assistant says
(`{% generation %}`) gives the target itself, as trainers use it for the loss on the assistant's
turns. Otherwise the prompt with its generation prompt must be a prefix of the whole rendering, and
the target is the rest. Two things that `template_choice.as_trained` reads from the run change this:
the target may begin with the end of the prompt (`lead`), or be the rest in spite of marks
(`is_completion`).
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from premem_core.errors import DataError
from premem_core.models.backend import Ending, Target
from premem_core.models.encoding.chat_template_files import marks_generation
from premem_core.models.encoding.spans import (
    common_prefix,
    ends_inside,
    kept_marks,
    scored_tokens,
    trace_length,
)
from premem_core.models.encoding.stops import added_tokens
from premem_core.problems.conversations import REASONING, question_place, separate_answer
from premem_core.problems.prompts import ChatTemplate
from premem_core.problems.thinking import ThinkingMarks, split_thinking
from premem_core.records import Conversation, Example

Turn = Mapping[str, Any]


class ChatEncoder:
    """Makes token ids with a chat template; the arguments are those of `make_encoder`.

    Raises:
        DataError: there is no chat template, or it does not have one of its arguments.
    """

    def __init__(
        self,
        template: ChatTemplate,
        tokenizer: Any,
        ends: frozenset[int],
        marks: ThinkingMarks | None = None,
        longest: int | None = None,
    ) -> None:
        self.template, self.tokenizer = template, tokenizer
        self._marks, self._longest = marks, longest
        if template.template is None and not tokenizer.chat_template:
            raise DataError(
                "the checkpoint has no chat template (chat_template.jinja); copy the one that the "
                "run was trained with beside the weights, give it with --chat-template, or choose "
                "a plain prompt with --plain"
            )
        for name in template.arguments:
            if not re.search(rf"\b{name}\b", self._source()):
                raise DataError(f"the chat template has no argument {name!r}; correct its name")
        probe = ({"role": "user", "content": "question"},)
        stop, turn_end = self._turn_end(probe)
        stops = {i for text, i in added_tokens(tokenizer).items() if text in template.stop}
        begun = self._generation_prompt(probe)
        self.opens_trace = ends_inside(begun, marks)
        self.ending = Ending(
            (*template.stop, *stop),
            ends - self._inner_tokens(probe) | turn_end | stops,
            kept_marks(tokenizer, marks),
            marks,
        )

    @property
    def marks_generation(self) -> bool:
        """Whether the target is what the template marks as the assistant's."""
        return not self.template.is_completion and marks_generation(self._source())

    def prompt(self, example: Example, beginning: str = "") -> tuple[int, ...]:
        """As `Encoder.prompt`; a beginning stands where the template lets the answer begin."""
        text = "".join(self._prompt_parts(example, beginning))
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        if not ids:
            raise DataError(f"the chat template renders nothing for example '{example.id}'")
        return tuple(ids)

    def leaves_open(self, example: Example, beginning: str = "") -> bool:
        """As `Encoder.leaves_open`."""
        if not beginning or self._marks is None:
            return self.opens_trace
        _, added = self._prompt_parts(example, beginning)
        return ends_inside(added, self._marks, opened=self.opens_trace)

    def _prompt_parts(self, example: Example, beginning: str) -> tuple[str, str]:
        """The prompt that the template renders, and what is added so that the beginning fits."""
        conversation = self._conversation(example)
        text = self._render(conversation.context, conversation.tools, prompt=True)
        if not beginning:
            return text, ""
        return text, self._before_answer(conversation, example, text) + beginning.lstrip()

    def target(self, example: Example) -> Target:
        """As `Encoder.target`."""
        conversation = self._conversation(example)
        turns = [*conversation.context, conversation.target]
        encoded = self._apply(
            turns,
            conversation.tools,
            tokenize=True,
            return_dict=True,
            return_assistant_tokens_mask=self.marks_generation,
            tokenizer_kwargs={"return_offsets_mapping": True},
        )
        text = self._render(turns, conversation.tools)
        ends = [end for _, end in encoded["offset_mapping"]]
        start = self._start(conversation, example, text)
        if self._answer(example).strip() not in text[start:]:
            raise DataError(
                f"the chat template leaves the solution of example '{example.id}' out of its "
                "rendering; give the template that the run was trained with (--chat-template)"
            )
        scored = [i for i, end in enumerate(ends) if end > start]
        if self.marks_generation:
            scored = [i for i in scored if encoded["assistant_masks"][i]]
        if not scored or scored[0] == 0:
            raise DataError(
                f"the chat template leaves example '{example.id}' no token that is the "
                "assistant's; check its generation marks, or the example's last turn"
            )
        begin = ends[scored[0] - 1]
        trace_end = begin + trace_length(text[begin:], self._marks, opened=self.opens_trace)
        return scored_tokens(encoded["input_ids"], ends, scored, trace_end, self._longest)

    def unconditional_target(self, example: Example) -> Target:
        """As `Encoder.unconditional_target`: only a BOS stays before the target."""
        target = self.target(example)
        first, bos = target.scored[0], self.tokenizer.bos_token_id
        before = (bos,) if bos is not None and target.ids[0] == bos else ()
        ids = before + target.ids[first:]
        scored = tuple(i - first + len(before) for i in target.scored)
        if not before:
            scored, trace = scored[1:], max(target.trace - 1, 0)
            return Target(ids, scored, trace)
        return Target(ids, scored, target.trace)

    def _source(self) -> str:
        template = self.template.template
        return template or str(self.tokenizer.get_chat_template())

    def _conversation(self, example: Example) -> Conversation:
        """The example's conversation with its question, which a perturbation may have changed."""
        conversation = example.conversation or Conversation(
            ({"role": "user", "content": example.question},),
            {"role": "assistant", "content": example.solution},
        )
        context = list(conversation.context)
        place = question_place(conversation)
        context[place] = {**context[place], "content": example.question}
        if self.template.system is not None and context[0]["role"] != "system":
            context.insert(0, {"role": "system", "content": self.template.system})
        return Conversation(tuple(context), conversation.target, conversation.tools)

    def _apply(self, turns: Sequence[Turn], tools: Sequence[Turn], **options: Any) -> Any:
        try:
            return self.tokenizer.apply_chat_template(
                [dict(turn) for turn in turns],
                tools=[dict(tool) for tool in tools] or None,
                chat_template=self.template.template,
                **options,
                **self.template.arguments,
            )
        except Exception as error:  # a template can raise what it likes
            said = next((t["content"] for t in turns if t["role"] == "user"), "")
            reason = str(error) or type(error).__name__
            raise DataError(
                f"the chat template cannot render the conversation about {str(said)[:60]!r} "
                f"({reason}); correct the template, its arguments or the data"
            ) from error

    def _render(
        self, turns: Sequence[Turn], tools: Sequence[Turn] = (), *, prompt: bool = False
    ) -> str:
        text: str = self._apply(turns, tools, tokenize=False, add_generation_prompt=prompt)
        return text

    def _start(self, conversation: Conversation, example: Example, text: str) -> int:
        """Where the target, or the turn that holds it, begins in the rendering `text`."""
        context, tools = conversation.context, conversation.tools
        if self.marks_generation:
            return common_prefix(self._render(context, tools), text)
        prompt = self._before_lead(context, tools)
        if not text.startswith(prompt):
            place = common_prefix(prompt, text)
            raise DataError(
                f"the chat template renders the prompt of example '{example.id}' with "
                f"{prompt[place : place + 40]!r} where the whole conversation has "
                f"{text[place : place + 40]!r}, so it is not clear where the target begins; give "
                "the arguments that the run was trained with (--template-argument), or its "
                "training template with generation marks (--chat-template)"
            )
        return len(prompt)

    def _before_lead(self, context: Sequence[Turn], tools: Sequence[Turn]) -> str:
        """The prompt without the part of its end that is scored."""
        prompt = self._render(context, tools, prompt=True)
        if not self.template.lead:
            return prompt
        begun = common_prefix(self._render(context, tools), prompt)
        place = prompt.rfind(self.template.lead, begun)
        return prompt if place < 0 else prompt[:place]

    def _before_answer(self, conversation: Conversation, example: Example, prompt: str) -> str:
        """What the template and the trace put between the prompt and the answer's first word."""
        text = self._render([*conversation.context, conversation.target], conversation.tools)
        if not text.startswith(prompt):
            return ""
        said = text[len(prompt) :]
        start, end = self._trace_place(said)
        trace = said[start:end]
        if trace.strip():  # it comes first
            return said[:start] + trace[: len(trace) - len(trace.lstrip())]
        rest = said[end:].removeprefix(self._marks.closing) if self._marks else said
        place = rest.find(self._answer(example).strip()[:20])
        return said[: len(said) - len(rest)] + rest[: max(place, 0)]

    def _trace_place(self, said: str) -> tuple[int, int]:
        """Where the text between the marks of a trace is in what the assistant says; 0, 0: none."""
        if self._marks is None:
            return 0, 0
        opening = said.find(self._marks.opening)
        if opening < 0 and not self.opens_trace:
            return 0, 0
        start = 0 if self.opens_trace else opening + len(self._marks.opening)
        end = said.find(self._marks.closing, start)
        return start, len(said) if end < 0 else end

    def _generation_prompt(self, turns: Sequence[Turn]) -> str:
        with_prompt = self._render(turns, prompt=True)
        return with_prompt[common_prefix(self._render(turns), with_prompt) :]

    def _answer(self, example: Example) -> str:
        """The solution without its thinking trace."""
        answer = separate_answer(example)
        if answer is None:
            answer = split_thinking(example.solution, self._marks).answer
        return answer or example.solution

    def _inner_tokens(self, turns: Sequence[Turn]) -> frozenset[int]:
        """The tokens that the template puts between the prompt and an answer with reasoning.

        One of them may end a turn elsewhere: gpt-oss ends its reasoning with `<|end|>`.
        """
        turn = {"role": "assistant", "content": "answer", **dict.fromkeys(REASONING, "reason")}
        try:
            text = self._render([*turns, turn])
        except DataError:  # it takes reasoning in one place only, or none
            return frozenset()
        start = common_prefix(self._render(turns, prompt=True), text)
        inner = text[start : text.rfind("answer")]
        return frozenset(self.tokenizer(inner, add_special_tokens=False)["input_ids"])

    def _turn_end(self, turns: Sequence[Turn]) -> tuple[tuple[str, ...], frozenset[int]]:
        """What the template puts after the assistant's words: a string or a token."""
        text = self._render([*turns, {"role": "assistant", "content": "answer"}])
        behind = text[text.rfind("answer") + len("answer") :]
        added = added_tokens(self.tokenizer)
        ids = self.tokenizer(behind, add_special_tokens=False)["input_ids"]
        tokens = [i for i in ids if i in set(added.values())]
        if tokens:
            return (), frozenset(tokens[:1])
        return ((behind.strip(),) if behind.strip() else ()), frozenset()
