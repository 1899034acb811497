"""The suite. Shared parts: strategies (what Hypothesis draws), oracles (naive loops), checks (what holds for
every operation), mutate (breaks each derivative and sees whether the suite notices)."""
