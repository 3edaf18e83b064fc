"""The only place that speaks SQL, through the files in sql/."""
