package vswitch

// VnetLen is the length in bytes of the virtio_net_hdr in front of each frame
// (include/uapi/linux/virtio_net.h; the legacy form without num_buffers).
const VnetLen = 10

// Flags and GSO types of a virtio_net_hdr.
const (
	VnetNeedsCsum = 1 // the checksum field holds the pseudo header's sum only
	VnetDataValid = 2 // the checksum was found good

	GSONone  = 0
	GSOTCPv4 = 1
	GSOUDP   = 3 // old UDP fragmentation; no current kernel sends it
	GSOTCPv6 = 4
	GSOUDPL4 = 5
	GSOECN   = 0x80
)

// Vnet is a decoded virtio_net_hdr. Fields are little-endian on the wire on
// every machine we build for, since the kernel's legacy header is host-endian.
type Vnet struct {
	Flags, GSOType     uint8
	HdrLen, GSOSize    uint16
	CsumStart, CsumOff uint16
}

// ReadVnet decodes the header at the start of b, which has VnetLen bytes.
func ReadVnet(b []byte) Vnet {
	_ = b[VnetLen-1]
	return Vnet{b[0], b[1], le16(b[2:]), le16(b[4:]), le16(b[6:]), le16(b[8:])}
}

// Put encodes the header into the start of b.
func (v Vnet) Put(b []byte) {
	_ = b[VnetLen-1]
	b[0], b[1] = v.Flags, v.GSOType
	putle16(b[2:], v.HdrLen)
	putle16(b[4:], v.GSOSize)
	putle16(b[6:], v.CsumStart)
	putle16(b[8:], v.CsumOff)
}
