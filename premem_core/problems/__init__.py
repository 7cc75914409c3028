"""Problems: a data file becomes examples, and an example becomes the text that a model sees.

An *example* is one problem: a question, a solution and a final answer. *Fields* say which column
of the file is which. A *prompt template* fills the question into a prompt and the solution into
a *target*. A *perturbation* is another form of a question, in which a copied solution no longer
fits.

Begin with `examples.py`; `rows.py` reads the file, `fields.py` finds the columns,
`final_answers.py` finds the answer in a text.
"""
