module github.com/devicegrant/devicegrant/examples

go 1.26.0

require (
	github.com/devicegrant/devicegrant v0.0.0
	github.com/google/uuid v1.6.0
	github.com/stretchr/testify v1.12.1
	golang.org/x/net v0.62.0
	rsc.io/qr v0.2.0
)

require go.yaml.in/yaml/v3 v3.0.5 // indirect

replace github.com/devicegrant/devicegrant => ../
