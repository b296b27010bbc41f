"""What do runs tell that exist already, of any Trainer?"""
