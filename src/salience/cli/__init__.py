"""Command line of salience: one file a command under ``commands/``, imported when the command is asked for."""
