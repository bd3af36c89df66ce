"""What everything stands on: arrays, shapes, memory, random numbers, files, signals. Nothing of networks, images or medicine."""
