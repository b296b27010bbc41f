"""How does the score depend on one setting? Its values as recipes of one study."""
