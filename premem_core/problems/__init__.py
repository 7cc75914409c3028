"""Problems: a data file becomes examples, and an example becomes the text that a model sees.

An *example* is one problem: a question, a solution and a final answer; where it comes from a chat,
it also has its *conversation*. *Fields* say which column of the file holds which of these. A
*template*, plain or chat, says how an example becomes a prompt and a *target*. A *thinking trace*
is the part of a solution before its answer. A *perturbation* is a changed question, to which a
memorized solution no longer fits.

Begin with `examples.py`. `data_files.py` finds the files, `rows.py` reads them, `fields.py` finds
the columns, and `final_answers.py` finds the answer in a text.
"""
