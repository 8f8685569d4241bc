"""Whether an answer about a picture can be meant: reasons why not, a module for each kind."""
