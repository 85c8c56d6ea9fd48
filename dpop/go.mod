module github.com/devicegrant/devicegrant/dpop

go 1.26.0

require (
	github.com/devicegrant/devicegrant v0.0.0
	github.com/go-jose/go-jose/v4 v4.1.9
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/google/uuid v1.6.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/text v0.43.0 // indirect
)

replace github.com/devicegrant/devicegrant => ../
