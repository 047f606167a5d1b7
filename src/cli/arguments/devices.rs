//! The devices of a new container.

use clap::ValueEnum;

use crate::api::devices::New;
use crate::api::pairs::Pairs;
use crate::model::device::{DeviceType, ROOT_DEVICE};

/// Devices besides interfaces.
#[derive(clap::Args)]
pub struct NewDevicesArgs {
    /// A device, as NAME,type=disk,KEY=VALUE,…; for more than one device, give the option more than once
    #[arg(short, long = "device", value_name = "NAME,type=TYPE,KEY=VALUE", value_parser = device)]
    devices: Vec<NewDevice>,
}

#[derive(Clone)]
struct NewDevice {
    name: String,
    device_type: DeviceType,
    pairs: Vec<(String, String)>,
}

impl NewDevicesArgs {
    pub fn requests(self) -> Vec<New> {
        let request =
            |NewDevice { name, device_type, pairs }| New { device: name, device_type, config: Pairs(pairs) };
        self.devices.into_iter().map(request).collect()
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Type {
    Disk,
    UnixChar,
    None,
}

fn device(text: &str) -> Result<NewDevice, String> {
    let mut words = text.split(',');
    let name = words.next().unwrap_or_default().to_owned();
    let (mut device_type, mut pairs) = (None, Vec::new());
    for word in words {
        match word.split_once('=') {
            Some(("type", "nic")) => return Err("interfaces are asked for by --network and --ip".to_owned()),
            Some(("type", value)) => device_type = Some(Type::from_str(value, false).map_err(|_| types())?),
            Some((key, value)) if !key.is_empty() => pairs.push((key.to_owned(), value.to_owned())),
            _ => return Err(format!("'{word}' is not KEY=VALUE")),
        }
    }
    let device_type = match device_type {
        Some(Type::Disk) => DeviceType::Disk,
        Some(Type::UnixChar) => DeviceType::UnixChar,
        Some(Type::None) => DeviceType::None,
        // As LXD's hands type it.
        None if name == ROOT_DEVICE => DeviceType::Disk,
        None => return Err(types()),
    };
    Ok(NewDevice { name, device_type, pairs })
}

fn types() -> String {
    "it needs its type: type=disk, type=unix-char or type=none".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_its_name_its_type_and_its_keys() {
        let data = device("data,type=disk,source=/srv/a=b,path=/srv").unwrap();
        assert_eq!((data.name.as_str(), data.device_type), ("data", DeviceType::Disk));
        assert_eq!(data.pairs[0], ("source".to_owned(), "/srv/a=b".to_owned()));
        let root = device("root,size=10GiB").unwrap();
        assert_eq!((root.device_type, root.pairs.len()), (DeviceType::Disk, 1));
        for bad in ["data", "data,source=/a", "data,type=disk,x", "eth0,type=nic", "a,type=gpu"] {
            assert!(device(bad).is_err(), "{bad}");
        }
    }
}
