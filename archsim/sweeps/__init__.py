"""Design-space sweeps: many points from one YAML file, kept, resumed, compared."""
