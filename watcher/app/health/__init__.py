"""How the daemon is doing: gathered once, judged once, told in several languages."""
