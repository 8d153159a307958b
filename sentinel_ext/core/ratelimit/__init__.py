"""Rate limits of RateLimitService: rules, counters, leases, decisions. Pure."""
