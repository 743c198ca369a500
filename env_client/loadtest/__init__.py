"""The load tester: synthetic clients by the hundred, measurements, and what they mean."""
