"""One run: its configuration, its parts, its folder; training, evaluation, prediction."""
