"""Tests. They mirror the source; `toy_world` holds the small worlds whose answers are known."""
