"""Why a request would pass or not: every stage asked, nothing taken."""
