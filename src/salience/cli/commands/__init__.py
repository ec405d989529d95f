"""One command a file.

A file has ``command`` (a function with typer annotations that returns an :class:`~salience.cli.answer.Answer`)
or ``commands`` (a dictionary of such functions), and ``EXAMPLES``, shown by ``--help`` and run by the tests.
"""
