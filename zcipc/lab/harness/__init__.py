"""What every measurement needs: fresh processes, payloads, statistics, progress."""
