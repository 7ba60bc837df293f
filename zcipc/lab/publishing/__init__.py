"""What a run is made into: the article, the report, tables of the documents, archives; and runs side by side."""
