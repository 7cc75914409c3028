r"""Shapes of training data as tools write them, and what must come of each.

A shape is the tool that reads or writes it, rows, and the question, solution, answer and number of
turns before the target of the first example (0: no conversation) — or words of the refusal.
"""

from typing import Any, NamedTuple

Q, S = "2+2?", "It is 4.\n#### 4"
USER, ASSISTANT = {"role": "user", "content": Q}, {"role": "assistant", "content": S}
SYSTEM = {"role": "system", "content": "Be brief."}
THOUGHT = "<think>\n2 and 2\n</think>\n\n" + S


class Shape(NamedTuple):
    """One shape and its outcome."""

    source: str
    row: dict[str, Any]
    question: str = Q
    solution: str = S
    answer: str = "4"
    turns: int = 0
    refusal: str = ""


SHAPES = [
    Shape("GSM8K: question, answer", {"question": Q, "answer": S}),
    Shape("MATH: problem, solution boxed", {"problem": Q, "solution": r"\boxed{4}", "level": "1"},
          solution=r"\boxed{4}"),
    Shape("MATH-500: answer column", {"problem": Q, "solution": "So.", "answer": "4"},
          solution="So."),
    Shape("MetaMath: query, response", {"query": Q, "response": "So.\nThe answer is: 4"},
          solution="So.\nThe answer is: 4"),
    Shape("Orca-Math: answer in words", {"question": Q, "answer": "So the answer is 4."},
          solution="So the answer is 4."),
    Shape("capitals and spaces", {"Question": Q, "Solution": "So.", "Final Answer": "4"},
          solution="So."),
    Shape("number as answer", {"question": Q, "solution": "So.", "answer": 4}, solution="So."),
    Shape("float as answer", {"question": Q, "solution": "So.", "answer": 4.5}, solution="So.",
          answer="4.5"),
    Shape("list of one answer", {"question": Q, "solution": "So.", "answer": ["4"]},
          solution="So."),
    Shape("empty answer beside a mark", {"question": Q, "solution": S, "answer": None}),
    Shape("a huge number as id", {"id": 10**400, "question": Q, "solution": S}),
    Shape("TRL: prompt, completion", {"prompt": Q, "completion": S}),
    Shape("TRL: prompt, completion as messages",
          {"prompt": [USER], "completion": [ASSISTANT]}, turns=1),
    Shape("TRL: system in the prompt", {"prompt": [SYSTEM, USER], "completion": [ASSISTANT]},
          turns=2),
    Shape("TRL: messages", {"messages": [USER, ASSISTANT]}, turns=1),
    Shape("TRL: messages with a system turn", {"messages": [SYSTEM, USER, ASSISTANT]}, turns=2),
    Shape("TRL: several turns", {"messages": [USER, ASSISTANT, USER, ASSISTANT]}, turns=3),
    Shape("TRL: a user's turn at the end", {"messages": [USER, ASSISTANT, USER]}, turns=1),
    Shape("TRL: messages and tools", {"messages": [USER, ASSISTANT], "tools": '[{"name": "add"}]'},
          turns=1),
    Shape("TRL: tool turns",
          {"messages": [USER, {"role": "assistant", "content": "", "tool_calls": [{"name": "add"}]},
                        {"role": "tool", "content": "4"}, ASSISTANT]}, turns=3),
    Shape("TRL: reasoning_content",
          {"messages": [USER, {**ASSISTANT, "reasoning_content": "2 and 2"}]}, solution=THOUGHT,
          turns=1),
    Shape("thinking within the content", {"messages": [USER, {**ASSISTANT, "content": THOUGHT}]},
          solution=THOUGHT, turns=1),
    Shape("OpenAI: content in parts",
          {"messages": [{"role": "user", "content": [{"type": "text", "text": Q}]}, ASSISTANT]},
          turns=1),
    Shape("OpenAI: developer turn",
          {"messages": [{**SYSTEM, "role": "developer"}, USER, ASSISTANT]}, turns=2),
    Shape("Axolotl: a turn not trained on",
          {"messages": [USER, ASSISTANT, USER, {**ASSISTANT, "content": "#### 5", "train": False}]},
          turns=1),
    Shape("Mistral: weight 0",
          {"messages": [USER, ASSISTANT, USER, {**ASSISTANT, "content": "#### 5", "weight": 0}]},
          turns=1),
    Shape("messages written as JSON",
          {"messages": '[{"role": "user", "content": "2+2?"}, {"role": "assistant", '
                       '"content": "#### 4"}]'}, solution="#### 4", turns=1),
    Shape("ShareGPT: conversations",
          {"conversations": [{"from": "human", "value": Q}, {"from": "gpt", "value": S}]}, turns=1),
    Shape("ShareGPT: system and observation",
          {"conversations": [{"from": "system", "value": "Be brief."},
                             {"from": "human", "value": Q},
                             {"from": "function_call", "value": "add(2, 2)"},
                             {"from": "observation", "value": "4"}, {"from": "gpt", "value": S}]},
          turns=4),
    Shape("LLaMA-Factory: ShareGPT with a system column",
          {"conversations": [{"from": "human", "value": Q}, {"from": "gpt", "value": S}],
           "system": "Be brief."}, turns=2),
    Shape("Alpaca: empty input", {"instruction": Q, "input": "", "output": S}),
    Shape("Alpaca: instruction and input", {"instruction": "Add.", "input": Q, "output": S},
          question=f"Add.\n{Q}"),
    Shape("LLaMA-Factory: Alpaca with system and history",
          {"instruction": Q, "input": "", "output": S, "system": "Be brief.",
           "history": [["1+1?", "2"]]}, turns=4),
    Shape("Axolotl: input and output", {"input": Q, "output": S}),
    Shape("UltraFeedback: prompt, chosen turns that repeat it",
          {"prompt": Q, "chosen": [USER, ASSISTANT], "rejected": [USER, ASSISTANT]}, turns=1),
    Shape("a system column beside a system turn",
          {"system": "Be long.", "messages": [SYSTEM, USER, ASSISTANT]}, turns=2),
    Shape("verl: prompt turns, nested answer",
          {"prompt": [USER], "reward_model": {"style": "rule", "ground_truth": "4"},
           "extra_info": {"answer": S, "index": 0}}, turns=1),
    Shape("Open-R1: messages beside generations",
          {"problem": Q, "solution": "x", "answer": "4", "generations": ["a", "b"],
           "messages": [USER, {**ASSISTANT, "content": THOUGHT}]}, solution=THOUGHT, turns=1),
    Shape("Open-R1: generations only", {"problem": Q, "generations": [S, "#### 5"], "answer": "4"}),
    Shape("AQuA: list of options",
          {"question": Q, "options": ["A)3", "B)4"], "rationale": "B.", "correct": "B"},
          question=f"{Q}\nA)3\nB)4", solution="B.", answer="B"),
    Shape("ARC: choices with labels",
          {"question": Q, "choices": {"text": ["3", "4"], "label": ["A", "B"]}, "answerKey": "B",
           "solution": "B."}, question=f"{Q}\nA) 3\nB) 4", solution="B.", answer="B"),
    Shape("MMLU: index of a choice",
          {"question": Q, "choices": ["3", "4"], "answer": 1, "solution": "B."},
          question=f"{Q}\nA) 3\nB) 4", solution="B.", answer="B"),
    Shape("our own export: messages",
          {"id": "a", "messages": [USER, ASSISTANT], "answer": "4", "rank": 1, "premem": 0.5},
          turns=1),
    Shape("our own export: Alpaca",
          {"id": "a", "instruction": Q, "input": "", "output": S, "answer": "4", "rank": 1}),
    Shape("a rendered text", {"text": "<|user|>2+2?<|assistant|>4"},
          refusal="has the columns text, from which it is not clear which one is the question; a "
                  "rendered text does not say where the solution begins"),
    Shape("unknown names", {"prompt_text": "hello", "completion_text": "world"},
          refusal="expected messages or conversations .lists of turns.; prompt and completion; "
                  "instruction, input and output; one of question, problem"),
    Shape("no final answer", {"prompt": Q, "completion": "It is four."},
          refusal="where the final answer is; say where with --answer"),
    Shape("s1K: the solution is the answer",
          {"question": Q, "solution": "4", "thinking_trajectories": ["2 and 2"], "attempt": "4"},
          refusal="where the final answer is; say where with --answer"),
    Shape("an empty solution", {"problem": Q, "answer": "4", "solution": ""},
          refusal="line 1: 'solution' is empty"),
    Shape("a conversation without an answer", {"messages": [USER, {**ASSISTANT, "content": ""}],
                                               "answer": "4"},
          refusal="no turn with a text is the assistant's"),
    Shape("a call of a tool as the last turn",
          {"messages": [USER, ASSISTANT, USER, {**ASSISTANT, "content": "", "tool_calls": [{}]}],
           "answer": "4"},
          refusal="the assistant's last turn has no text"),
    Shape("a conversation that the assistant begins", {"messages": [ASSISTANT]},
          refusal="no turn of the user before the assistant's"),
    Shape("an image", {"messages": [{"role": "user", "content": [{"type": "image"}]}, ASSISTANT]},
          refusal="the content of a turn is .*not text"),
]  # fmt: skip
