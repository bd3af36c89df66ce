"""The items of CLAIM, TRIPOD+AI and STARD-AI, and what the results of a study say of each."""
