"""How is any Trainer script studied, from the outside?"""
