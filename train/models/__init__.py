"""The networks. Their training is in train.tasks."""
