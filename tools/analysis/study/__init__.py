"""The paper's ablation: rows, their trainings, statistics over seeds, report, pictures."""
