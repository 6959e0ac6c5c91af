"""The kinds of simulated scenes. Each public function of these modules plans one scene in a `World`."""
