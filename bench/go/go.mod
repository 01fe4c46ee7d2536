module bench

go 1.25

require golang.org/x/sync v0.19.0

require github.com/panjf2000/ants/v2 v2.12.1 // indirect
