"""Which runs are stopped early, when, and how do the others go on?"""
