"""From a question to ranked passages: two legs, their fusion, a second search, merging."""
