"""What did runs of whatever procedures do differently, and what were their scores?"""
