"""Rules over records: findings, verdict, and the comparison of runs. No torch."""
