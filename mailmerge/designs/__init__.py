"""Designs and drafts made with other programs: their placeholders, and what their editors do to ours."""
