"""How is people's own function `StabilizerArguments -> Trainer` studied?"""
