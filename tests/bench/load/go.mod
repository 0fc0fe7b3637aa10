module riata.example/load

go 1.26.0
