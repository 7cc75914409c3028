"""Before a job: a person's request becomes a specification, and its time and disk are estimated.

A *request* names files and leaves values open; a *prepared job* has all of them.
"""
