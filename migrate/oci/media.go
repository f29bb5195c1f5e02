package oci

// Media types of the OCI image format 1.1.
const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeEmpty    = "application/vnd.oci.empty.v1+json"
)

// Media types of the CNCF ModelPack format. All layers are files as they are:
// weights hardly compress, and so a layer's digest is that of the file.
const (
	typeModel        = "application/vnd.cncf.model.manifest.v1+json"
	typeModelConfig  = "application/vnd.cncf.model.config.v1+json"
	typeWeight       = "application/vnd.cncf.model.weight.v1.raw"
	typeWeightConfig = "application/vnd.cncf.model.weight.config.v1.raw"
	typeDoc          = "application/vnd.cncf.model.doc.v1.raw"
	typeCode         = "application/vnd.cncf.model.code.v1.raw"
	typeDataset      = "application/vnd.cncf.model.dataset.v1.raw"
)

// Annotations that others define.
const (
	keyRefName  = "org.opencontainers.image.ref.name" // the tag
	keyCreated  = "org.opencontainers.image.created"
	keyTitle    = "org.opencontainers.image.title" // of a layer: the file that oras pull makes of it
	keyVersion  = "org.opencontainers.image.version"
	keyFilePath = "org.cncf.model.filepath"
	keyFileInfo = "org.cncf.model.file.metadata+json"
	keyUntested = "org.cncf.model.file.mediatype.untested"
)

// Annotations of heft's own. The OCI format asks for a domain that belongs to
// whoever names them, turned around.
const (
	own             = "io.github.heftstore.heft."
	keyName         = own + "name"
	keyLabel        = own + "version"
	keyID           = own + "id"
	keyStore        = own + "store" // the id of the store
	keyManifest     = own + "manifest"
	keyStatus       = own + "status"
	keyParent       = own + "parent"
	keyRegisteredAt = own + "registered-at" // microseconds since the Unix epoch
	keyRegisteredBy = own + "registered-by"
	keyUpdatedAt    = own + "updated-at" // like registered-at
	keyAliases      = own + "aliases"    // a JSON array
	keyMetadata     = own + "metadata"   // canonical JSON
	keyOrigin       = own + "origin"     // canonical JSON
	keyBLAKE3       = own + "blake3"     // of a layer
)
