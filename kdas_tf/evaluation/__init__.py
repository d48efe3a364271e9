"""How good a network is: features, ranking, verification, re-ranking, and what people look at."""
