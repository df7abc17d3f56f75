module rushgate/local-lock

go 1.19
