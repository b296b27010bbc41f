"""What does each remedy do, alone and on top of the others?"""
