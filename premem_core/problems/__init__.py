"""Problems: a data file becomes examples, and an example becomes the text that a model sees.

An *example* is one problem: a question, a solution and a final answer. *Fields* say which column
of the file holds which of these. A *prompt template* makes a prompt of the question and a *target*
of the solution. A *perturbation* is a changed question, to which a memorized solution no longer
fits.

Begin with `examples.py`. `rows.py` reads the file, `fields.py` finds the columns, and
`final_answers.py` finds the answer in a text.
"""
