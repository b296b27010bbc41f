"""With this budget, how many runs, stopped when, and how many to the end?"""
