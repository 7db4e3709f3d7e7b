"""The playground: panels in which a person changes something and sees at once what a model makes of it."""
