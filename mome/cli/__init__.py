"""The command line: arguments in, calls, words and exit codes out."""
