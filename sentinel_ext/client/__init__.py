"""What asks a Sentinel that runs: its DecisionService, its health, and a load of Checks."""
